// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

/// @title Stands in for the requests contract of the second generation, with its defects. For tests; never deploy it.
/// @dev Written from the field's facts: same functions, layout, order of checks and events. The texts of the reverts of
/// which no record exists are this file's own. What of it is wrong: capacity is never enforced; payloads have no limit;
/// only the broker may release, silently; markExpired on a request that was released while Pending counts it down again
/// and deletes whatever the mapping holds.
contract BrokerRequestsV2 is Ownable {
    enum RequestStatus {
        Pending,
        Approved,
        Rejected,
        Expired
    }

    struct Request {
        uint256 id;
        address requester;
        address nftContract;
        bytes encryptedPayload;
        RequestStatus status;
        bytes responsePayload;
        uint256 submittedAt;
        uint256 respondedAt;
    }

    Request[] public requests;
    mapping(address => uint256) public nftContractToRequestId;
    mapping(address => uint256[]) public requesterToRequestIds;
    uint256 public requestExpirationTime = 24 hours;
    uint256 public totalCapacity;
    uint256 public _activeCount;
    uint256 public _pendingCount;

    event RequestSubmitted(
        uint256 indexed requestId, address indexed requester, address indexed nftContract, bytes encryptedPayload
    );
    event ResponseSubmitted(uint256 indexed requestId, RequestStatus status, bytes responsePayload);
    event RequestExpired(uint256 indexed requestId);

    constructor() Ownable(msg.sender) {}

    function submitRequest(address nftContract, bytes calldata encryptedPayload) external returns (uint256 requestId) {
        require(nftContract != address(0), "Invalid NFT contract");
        require(encryptedPayload.length > 0, "Empty payload");
        require(nftContract.code.length > 0, "Not a contract");
        require(_isErc721(nftContract), "Not an ERC721 contract");
        require(_isOwner(nftContract, msg.sender), "Not the NFT contract owner");
        _supersede(nftContractToRequestId[nftContract]);

        requestId = requests.length + 1;
        requests.push(
            Request(requestId, msg.sender, nftContract, encryptedPayload, RequestStatus.Pending, "", block.timestamp, 0)
        );
        nftContractToRequestId[nftContract] = requestId;
        requesterToRequestIds[msg.sender].push(requestId);
        _pendingCount++;
        emit RequestSubmitted(requestId, msg.sender, nftContract, encryptedPayload);
    }

    function submitResponse(uint256 requestId, bytes calldata responsePayload) external onlyOwner {
        Request storage request = _at(requestId);
        require(request.status == RequestStatus.Pending, "Request not pending");
        require(nftContractToRequestId[request.nftContract] == requestId, "Request superseded");
        require(block.timestamp <= request.submittedAt + requestExpirationTime, "Request expired");
        require(responsePayload.length > 0, "Empty payload");
        request.status = RequestStatus.Approved;
        request.responsePayload = responsePayload;
        request.respondedAt = block.timestamp;
        _pendingCount--;
        _activeCount++;
        emit ResponseSubmitted(requestId, RequestStatus.Approved, responsePayload);
    }

    function markExpired(uint256[] calldata requestIds) external {
        for (uint256 i = 0; i < requestIds.length; i++) {
            if (requestIds[i] == 0 || requestIds[i] > requests.length) continue;
            Request storage request = requests[requestIds[i] - 1];
            if (request.status != RequestStatus.Pending) continue;
            if (block.timestamp <= request.submittedAt + requestExpirationTime) continue;
            request.status = RequestStatus.Expired;
            request.respondedAt = block.timestamp;
            delete nftContractToRequestId[request.nftContract];
            _pendingCount--;
            emit RequestExpired(requestIds[i]);
        }
    }

    function releaseAllocation(address nftContract) external onlyOwner {
        uint256 requestId = nftContractToRequestId[nftContract];
        require(requestId != 0, "No allocation");
        _countDown(requests[requestId - 1].status);
        delete nftContractToRequestId[nftContract];
    }

    function setRequestExpirationTime(uint256 expirationTime) external onlyOwner {
        require(expirationTime >= 1 hours && expirationTime <= 7 days, "Invalid expiration time");
        requestExpirationTime = expirationTime;
    }

    function setTotalCapacity(uint256 capacity) external onlyOwner {
        totalCapacity = capacity;
    }

    function getAvailableCapacity() external view returns (uint256) {
        if (totalCapacity == 0) return type(uint256).max;
        uint256 used = _activeCount + _pendingCount;
        return used < totalCapacity ? totalCapacity - used : 0;
    }

    function getRequest(uint256 requestId) external view returns (Request memory) {
        return _at(requestId);
    }

    function getRequestCount() external view returns (uint256) {
        return requests.length;
    }

    function _supersede(uint256 requestId) private {
        if (requestId == 0) return;
        Request storage request = requests[requestId - 1];
        _countDown(request.status);
        request.status = RequestStatus.Expired;
        request.respondedAt = block.timestamp;
    }

    function _countDown(RequestStatus status) private {
        if (status == RequestStatus.Pending) _pendingCount--;
        else if (status == RequestStatus.Approved) _activeCount--;
    }

    function _at(uint256 requestId) private view returns (Request storage) {
        require(requestId > 0 && requestId <= requests.length, "Invalid request ID");
        return requests[requestId - 1];
    }

    function _isErc721(address nftContract) private view returns (bool) {
        try IERC165(nftContract).supportsInterface(0x80ac58cd) returns (bool yes) {
            return yes;
        } catch {
            return false;
        }
    }

    function _isOwner(address nftContract, address caller) private view returns (bool) {
        (bool ok, bytes memory answer) = nftContract.staticcall(abi.encodeWithSignature("owner()"));
        return ok && answer.length == 32 && abi.decode(answer, (address)) == caller;
    }
}
