// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerRequests} from "./interfaces/IBrokerRequests.sol";
import {DataContracts} from "./lib/DataContracts.sol";
import {NftProbe} from "./lib/NftProbe.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @dev The values an answer changes or needs. They come first after Ownable's `_owner` (20 bytes) and fill its slot, so
/// that the check who may answer, the count and the data contract's nonce cost one slot instead of two. A test pins this.
abstract contract AnswerSlot is Ownable {
    /// @dev Number of Approved requests.
    uint40 internal _active;
    /// @dev Data contracts made so far: also this contract's nonce of the latest, as it creates nothing else.
    uint32 internal _dataContracts;
    /// @dev Seconds.
    uint24 internal _expirationTime = 24 hours;
}

/// @title Where a host asks one broker for IPv6 space, and where the broker answers. See IBrokerRequests.
/// @dev One rule holds it together: a request is Pending or Approved exactly while `nftContractToRequestId` names it.
/// Whatever takes a request out of the mapping makes it Expired in the same step (`_close`), so "is it still the live
/// one?" is answered by its status alone, and nothing can be answered, expired or released twice.
///
/// The NFT contract is foreign code. It is asked only through STATICCALL (NftProbe), under which nothing here can be
/// re-entered with effect, and before anything is written. Ownership moves in two steps (acceptOwnership()).
contract BrokerRequests is IBrokerRequests, AnswerSlot, Ownable2Step {
    using DataContracts for DataContracts.Buffer;

    /// @dev One slot, written when the request is made and when it ends.
    struct Submission {
        address requester;
        uint32 submittedAt; // 0 = no such request
        uint32 closedAt; // 0 = live
        uint32 payloadNonce; // the data contract that holds the payload, and nothing else
    }

    /// @dev One slot, the only one of the request that an answer writes.
    struct State {
        address nftContract;
        RequestStatus status;
        uint24 answeredAfter; // seconds after submittedAt: at most MAX_EXPIRATION
        uint32 responseNonce; // the data contract that holds the response, perhaps among others
        uint16 responseOffset;
        uint16 responseLength; // 0 = not answered
    }

    struct StoredRequest {
        Submission submission;
        State state;
    }

    uint256 private constant MAX_PAYLOAD = 4096;
    uint256 private constant MAX_EXPIRE_IDS = 256;
    uint256 private constant MIN_EXPIRATION = 1 hours;
    uint256 private constant MAX_EXPIRATION = 7 days;

    /// @dev Requests ever made, those of them that ended (Expired), and those of these that were released. The live ones
    /// are the difference of the first two, the pending ones what of that is not active. They share a slot with the
    /// pending owner.
    uint32 private _submitted;
    uint32 private _closed;
    uint32 private _released;
    /// @inheritdoc IBrokerRequests
    uint256 public override requestFee;
    /// @inheritdoc IBrokerRequests
    uint256 public override totalCapacity;
    mapping(uint256 requestId => StoredRequest) private _requests;
    /// @inheritdoc IBrokerRequests
    mapping(address nftContract => uint256 requestId) public override nftContractToRequestId;
    mapping(address requester => uint32[] requestIds) private _requesterToRequestIds;

    constructor() Ownable(msg.sender) {}

    /// @inheritdoc IBrokerRequests
    function submitRequest(address nftContract, bytes calldata encryptedPayload)
        external
        payable
        returns (uint256 requestId)
    {
        if (msg.value != requestFee) revert WrongFee(msg.value, requestFee);
        _checkPayload(encryptedPayload.length);
        _checkNftOwner(nftContract);

        uint256 superseded = nftContractToRequestId[nftContract];
        if (superseded != 0) {
            _close(superseded);
            emit RequestExpired(superseded);
        } else {
            _checkCapacity();
        }

        uint32 id = ++_submitted;
        requestId = id;
        StoredRequest storage request = _requests[id];
        request.submission = Submission({
            requester: msg.sender,
            submittedAt: SafeCast.toUint32(block.timestamp),
            closedAt: 0,
            payloadNonce: ++_dataContracts
        });
        request.state.nftContract = nftContract;
        nftContractToRequestId[nftContract] = id;
        _requesterToRequestIds[msg.sender].push(id);
        DataContracts.store(encryptedPayload);
        emit RequestSubmitted(id, msg.sender, nftContract, encryptedPayload);
    }

    /// @inheritdoc IBrokerRequests
    function submitResponse(uint256 requestId, bytes calldata responsePayload) external onlyOwner {
        _checkPayload(responsePayload.length);
        _checkId(requestId);
        Submission memory submission = _requests[requestId].submission;
        RequestStatus status = _requests[requestId].state.status;
        if (status != RequestStatus.Pending) revert RequestNotPending(requestId, status);
        uint256 expiresAt = _expiresAt(submission);
        if (block.timestamp > expiresAt) revert RequestOutOfTime(requestId, expiresAt);

        uint32 nonce = _dataContracts + 1;
        _countAnswers(1, nonce);
        _approve(requestId, submission, nonce, 0, responsePayload);
        DataContracts.store(responsePayload);
    }

    /// @inheritdoc IBrokerRequests
    function submitResponses(
        uint256[] calldata requestIds,
        bytes32[] calldata digests,
        bytes[] calldata responsePayloads
    ) external onlyOwner {
        if (requestIds.length != digests.length || requestIds.length != responsePayloads.length) {
            revert LengthMismatch(requestIds.length, digests.length, responsePayloads.length);
        }
        // All payloads together are shorter than the calldata, so nothing is lost if it lists one of them twice.
        DataContracts.Buffer memory buffer = DataContracts.newBuffer(msg.data.length, _dataContracts);
        uint40 answered = 0;
        for (uint256 i = 0; i < requestIds.length; i++) {
            if (_tryAnswer(buffer, requestIds[i], digests[i], responsePayloads[i])) answered++;
            else emit ResponseSkipped(requestIds[i]);
        }
        buffer.flush();
        _countAnswers(answered, buffer.nonce);
    }

    /// @inheritdoc IBrokerRequests
    function releaseAllocation(address nftContract) external {
        _release(nftContractToRequestId[nftContract], nftContract);
    }

    /// @inheritdoc IBrokerRequests
    function releaseRequest(uint256 requestId) external {
        address nftContract = _requests[requestId].state.nftContract;
        if (nftContractToRequestId[nftContract] != requestId) revert NoAllocation(nftContract);
        _release(requestId, nftContract);
    }

    /// @inheritdoc IBrokerRequests
    function markExpired(uint256[] calldata requestIds) external {
        if (requestIds.length > MAX_EXPIRE_IDS) revert TooManyIds(requestIds.length, MAX_EXPIRE_IDS);
        for (uint256 i = 0; i < requestIds.length; i++) {
            uint256 requestId = requestIds[i];
            Submission memory submission = _requests[requestId].submission;
            if (!_isPending(requestId, submission) || block.timestamp <= _expiresAt(submission)) continue;
            _close(requestId);
            emit RequestExpired(requestId);
        }
    }

    /// @inheritdoc IBrokerRequests
    function setRequestExpirationTime(uint256 expirationTime) external onlyOwner {
        if (expirationTime < MIN_EXPIRATION || expirationTime > MAX_EXPIRATION) {
            revert InvalidExpirationTime(expirationTime, MIN_EXPIRATION, MAX_EXPIRATION);
        }
        _expirationTime = uint24(expirationTime);
    }

    /// @inheritdoc IBrokerRequests
    function setTotalCapacity(uint256 newTotalCapacity) external onlyOwner {
        totalCapacity = newTotalCapacity;
    }

    /// @inheritdoc IBrokerRequests
    function setRequestFee(uint256 newRequestFee) external onlyOwner {
        requestFee = newRequestFee;
        emit RequestFeeChanged(newRequestFee);
    }

    /// @inheritdoc IBrokerRequests
    function withdraw(address payable to) external onlyOwner {
        if (to == address(0)) revert ZeroAddress();
        uint256 amount = address(this).balance;
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert WithdrawFailed(to, amount);
        emit FeesWithdrawn(to, amount);
    }

    /// @notice Offers the contract to a new owner, who takes it with acceptOwnership(). Only the owner.
    function transferOwnership(address newOwner) public override(Ownable, Ownable2Step) {
        super.transferOwnership(newOwner);
    }

    /// @notice Always reverts with OwnerRequired: without an owner nobody could answer, release or withdraw.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    /// @inheritdoc IBrokerRequests
    function getRequest(uint256 requestId) external view returns (Request memory) {
        return _request(requestId);
    }

    /// @inheritdoc IBrokerRequests
    function getRequestCount() external view returns (uint256) {
        return _submitted;
    }

    /// @inheritdoc IBrokerRequests
    function requests(uint256 index)
        external
        view
        returns (uint256, address, address, bytes memory, RequestStatus, bytes memory, uint256, uint256)
    {
        Request memory r = _request(index + 1);
        return (
            r.id,
            r.requester,
            r.nftContract,
            r.encryptedPayload,
            r.status,
            r.responsePayload,
            r.submittedAt,
            r.respondedAt
        );
    }

    /// @inheritdoc IBrokerRequests
    function requestDigest(uint256 requestId) external view returns (bytes32) {
        _checkId(requestId);
        return _digest(requestId, _requests[requestId].submission);
    }

    /// @inheritdoc IBrokerRequests
    function requesterToRequestIds(address requester, uint256 index) external view returns (uint256) {
        return _requesterToRequestIds[requester][index];
    }

    /// @inheritdoc IBrokerRequests
    function requestExpirationTime() external view returns (uint256) {
        return _expirationTime;
    }

    /// @inheritdoc IBrokerRequests
    function getAvailableCapacity() external view returns (uint256) {
        if (totalCapacity == 0) return type(uint256).max;
        uint256 live = _liveCount();
        return live < totalCapacity ? totalCapacity - live : 0;
    }

    /// @inheritdoc IBrokerRequests
    function _activeCount() external view returns (uint256) {
        return _active;
    }

    /// @inheritdoc IBrokerRequests
    function _pendingCount() external view returns (uint256) {
        return _liveCount() - _active;
    }

    /// @inheritdoc IBrokerRequests
    function releaseCount() external view returns (uint256) {
        return _released;
    }

    function _transferOwnership(address newOwner) internal override(Ownable, Ownable2Step) {
        super._transferOwnership(newOwner);
    }

    /// @dev Answers the request if it waits for an answer, in time, and is the one the digest was made of.
    function _tryAnswer(DataContracts.Buffer memory buffer, uint256 requestId, bytes32 digest, bytes calldata payload)
        private
        returns (bool)
    {
        _checkPayload(payload.length);
        Submission memory submission = _requests[requestId].submission;
        if (!_isPending(requestId, submission) || block.timestamp > _expiresAt(submission)) return false;
        if (digest != _digest(requestId, submission)) return false;
        uint256 offset = buffer.append(payload);
        _approve(requestId, submission, buffer.nonce, offset, payload);
        return true;
    }

    /// @dev Makes a pending request Approved: its response begins at `offset` of the data contract `nonce`.
    function _approve(
        uint256 requestId,
        Submission memory submission,
        uint32 nonce,
        uint256 offset,
        bytes calldata payload
    ) private {
        State storage state = _requests[requestId].state;
        // Nothing is cut off: at most 7 days; below 24,576; at most 4,096.
        uint24 answeredAfter = uint24(block.timestamp - submission.submittedAt);
        uint16 length = uint16(payload.length);
        // In a row, so that the compiler makes one write of the slot of them.
        state.status = RequestStatus.Approved;
        state.answeredAfter = answeredAfter;
        state.responseNonce = nonce;
        state.responseOffset = uint16(offset);
        state.responseLength = length;
        emit ResponseSubmitted(requestId, RequestStatus.Approved, payload);
    }

    /// @dev Adds to the active ones, and keeps the nonce of the latest data contract.
    function _countAnswers(uint40 answered, uint32 nonce) private {
        // Active requests are among the submitted ones, of which there are less than 2^32.
        unchecked {
            _active += answered;
            _dataContracts = nonce;
        }
    }

    /// @dev Ends the live request `requestId` of `nftContract`, at the wish of one of the two parties.
    function _release(uint256 requestId, address nftContract) private {
        if (requestId == 0) revert NoAllocation(nftContract);
        if (msg.sender != owner()) {
            address nftOwner = NftProbe.findOwner(nftContract);
            if (msg.sender != nftOwner) revert NotNftOwner(msg.sender, nftOwner);
        }
        _close(requestId);
        _released++;
        emit AllocationReleased(requestId, nftContract, msg.sender);
    }

    /// @dev Ends a live request: it becomes Expired and leaves the mapping.
    function _close(uint256 requestId) private {
        StoredRequest storage request = _requests[requestId];
        if (request.state.status == RequestStatus.Approved) _active--;
        _closed++;
        request.state.status = RequestStatus.Expired;
        request.submission.closedAt = SafeCast.toUint32(block.timestamp);
        delete nftContractToRequestId[request.state.nftContract];
    }

    function _checkNftOwner(address nftContract) private view {
        if (nftContract == address(0)) revert ZeroAddress();
        if (!NftProbe.isErc721(nftContract)) revert NotErc721(nftContract);
        address nftOwner = NftProbe.findOwner(nftContract);
        if (msg.sender != nftOwner) revert NotNftOwner(msg.sender, nftOwner);
    }

    function _checkCapacity() private view {
        uint256 capacity = totalCapacity;
        if (capacity != 0 && _liveCount() >= capacity) revert CapacityExhausted(capacity);
    }

    function _checkId(uint256 requestId) private view {
        if (_requests[requestId].submission.submittedAt == 0) revert InvalidRequestId(requestId);
    }

    /// @dev Whether there is such a request and it waits for an answer, in time or not.
    function _isPending(uint256 requestId, Submission memory submission) private view returns (bool) {
        return submission.submittedAt != 0 && _requests[requestId].state.status == RequestStatus.Pending;
    }

    /// @dev The last second in which the request may be answered.
    function _expiresAt(Submission memory submission) private view returns (uint256) {
        return uint256(submission.submittedAt) + _expirationTime;
    }

    function _digest(uint256 requestId, Submission memory submission) private view returns (bytes32) {
        address nftContract = _requests[requestId].state.nftContract;
        bytes32 payloadHash = DataContracts.addressOf(address(this), submission.payloadNonce).codehash;
        return
            keccak256(
                abi.encode(block.chainid, address(this), requestId, submission.requester, nftContract, payloadHash)
            );
    }

    /// @dev Number of requests that did not end.
    function _liveCount() private view returns (uint256) {
        return _submitted - _closed;
    }

    function _request(uint256 requestId) private view returns (Request memory) {
        _checkId(requestId);
        Submission memory submission = _requests[requestId].submission;
        State memory state = _requests[requestId].state;
        address payload = DataContracts.addressOf(address(this), submission.payloadNonce);
        return Request({
            id: requestId,
            requester: submission.requester,
            nftContract: state.nftContract,
            encryptedPayload: DataContracts.read(payload, 0, DataContracts.lengthOf(payload)),
            status: state.status,
            responsePayload: _response(state),
            submittedAt: submission.submittedAt,
            respondedAt: _respondedAt(submission, state)
        });
    }

    function _response(State memory state) private view returns (bytes memory) {
        address holder = DataContracts.addressOf(address(this), state.responseNonce);
        return DataContracts.read(holder, state.responseOffset, state.responseLength);
    }

    function _respondedAt(Submission memory submission, State memory state) private pure returns (uint256) {
        if (submission.closedAt != 0) return submission.closedAt;
        if (state.status == RequestStatus.Pending) return 0;
        return uint256(submission.submittedAt) + state.answeredAfter;
    }

    function _checkPayload(uint256 length) private pure {
        if (length == 0 || length > MAX_PAYLOAD) revert InvalidPayloadLength(length, MAX_PAYLOAD);
    }
}
