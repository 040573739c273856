// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerLens} from "./interfaces/IBrokerLens.sol";
import {IBrokerRequests} from "./interfaces/IBrokerRequests.sol";
import {DataContracts} from "./lib/DataContracts.sol";
import {NftProbe} from "./lib/NftProbe.sol";

/// @dev What contracts of the field answer besides IBrokerRequests.
interface IOwned {
    function owner() external view returns (address);
}

/// @dev The generation without answers on chain, of which only this is asked.
interface IBrokerRequestsWithoutAnswers {
    function capacityStatus() external view returns (uint8);
}

/// @title Everything the broker reads from the chain, in one eth_call.
/// @notice Never deployed: call with `data = creationCode || abi.encode(arguments)` and no `to`. The constructor answers
/// with the encoded IBrokerLens.Snapshot where other constructors answer with code. So it works on any chain at once,
/// and all values are of one block. See IBrokerLens for the shapes.
/// @dev The answer passes for code, which EIP-170 limits to 24,576 bytes: a page of about 30 requests of usual size.
contract BrokerLens {
    /// @dev EIP-170.
    uint256 private constant MAX_ANSWER = 24_576;

    /// @dev Encoded size of a Snapshot with empty lists: offset, 12 words, two lengths.
    uint256 private constant EMPTY_ANSWER = 15 * 32;

    /// @dev Encoded size of a RequestView with empty payload: offset, 11 words, length.
    uint256 private constant EMPTY_VIEW = 13 * 32;

    /// @dev Encoded size of a WatchView.
    uint256 private constant WATCH_SIZE = 5 * 32;

    /// @dev Leaves room for at least one request of the greatest size.
    uint256 private constant MAX_WATCHED = 120;

    /// @dev Longest payload returned.
    uint256 private constant MAX_PAYLOAD = 4096;

    /// @dev Gas that must be left to look at one more request: 4,915,200 to return the answer (200 per byte of what passes
    /// for code), and as much again to read the longest payload a 30-million-gas block of generation 1 could take
    /// (3 million), ask its NFT contract, and encode. Public endpoints give a call 50 million, anvil 30.
    uint256 private constant GAS_NEEDED = 10_000_000;

    constructor(address requests, uint256 cursor, uint256 max, uint256[] memory watchIds, address operator) {
        if (requests.code.length == 0) revert IBrokerLens.NoContract(requests);
        if (watchIds.length > MAX_WATCHED) revert IBrokerLens.TooManyWatched(watchIds.length, MAX_WATCHED);
        IBrokerLens.Snapshot memory s;
        _readBlock(s, operator);
        _readContract(s, IBrokerRequests(requests));
        s.watched = _watch(IBrokerRequests(requests), s.requestCount, watchIds);
        s.requests = _page(IBrokerRequests(requests), s, cursor, max);
        bytes memory answer = abi.encode(s);
        assembly ("memory-safe") {
            return(add(answer, 32), mload(answer))
        }
    }

    function _readBlock(IBrokerLens.Snapshot memory s, address operator) private view {
        s.blockNumber = block.number;
        s.timestamp = block.timestamp;
        s.chainId = block.chainid;
        s.operatorBalance = operator.balance;
    }

    function _readContract(IBrokerLens.Snapshot memory s, IBrokerRequests requests) private view {
        s.generation = _generation(requests);
        s.requestCount = requests.getRequestCount();
        s.expirationTime = requests.requestExpirationTime();
        s.owner = IOwned(address(requests)).owner();
        if (s.generation == 3) {
            s.releaseCount = requests.releaseCount();
            s.requestFee = requests.requestFee();
        }
    }

    /// @dev Told by which functions answer; see IBrokerLens.Snapshot.
    function _generation(IBrokerRequests requests) private view returns (uint256) {
        try requests.releaseCount() returns (uint256) {
            return 3;
        } catch {}
        try requests.getAvailableCapacity() returns (uint256) {
            return 2;
        } catch {}
        try IBrokerRequestsWithoutAnswers(address(requests)).capacityStatus() returns (uint8) {
            revert IBrokerLens.UnsupportedGeneration(address(requests));
        } catch {}
        return 1;
    }

    function _watch(IBrokerRequests requests, uint256 count, uint256[] memory ids)
        private
        view
        returns (IBrokerLens.WatchView[] memory watched)
    {
        watched = new IBrokerLens.WatchView[](ids.length);
        for (uint256 i = 0; i < ids.length; i++) {
            watched[i].id = ids[i];
            if (ids[i] == 0 || ids[i] > count) continue;
            IBrokerRequests.Request memory r = requests.getRequest(ids[i]);
            watched[i].exists = true;
            watched[i].status = r.status;
            watched[i].digest = _digest(requests, r);
            watched[i].mappedId = requests.nftContractToRequestId(r.nftContract);
        }
    }

    /// @dev The requests after `cursor`: at most `max`, and no more than the answer and the gas have room for.
    function _page(IBrokerRequests requests, IBrokerLens.Snapshot memory s, uint256 cursor, uint256 max)
        private
        view
        returns (IBrokerLens.RequestView[] memory page)
    {
        uint256 room = MAX_ANSWER - EMPTY_ANSWER - WATCH_SIZE * s.watched.length;
        uint256 wanted = cursor < s.requestCount ? _min(s.requestCount - cursor, max) : 0;
        page = new IBrokerLens.RequestView[](_min(wanted, room / EMPTY_VIEW));
        uint256 length = 0;
        while (length < page.length && gasleft() > GAS_NEEDED) {
            IBrokerLens.RequestView memory item = _view(requests, cursor + length + 1);
            uint256 size = EMPTY_VIEW + (item.payload.length + 31) / 32 * 32;
            if (size > room) break;
            room -= size;
            page[length++] = item;
        }
        if (length == 0 && wanted != 0) revert IBrokerLens.NotEnoughGas(gasleft(), GAS_NEEDED);
        assembly ("memory-safe") {
            mstore(page, length)
        }
    }

    function _view(IBrokerRequests requests, uint256 id) private view returns (IBrokerLens.RequestView memory) {
        IBrokerRequests.Request memory r = requests.getRequest(id);
        return IBrokerLens.RequestView({
            id: id,
            requester: r.requester,
            nftContract: r.nftContract,
            payload: r.encryptedPayload.length > MAX_PAYLOAD ? bytes("") : r.encryptedPayload,
            status: r.status,
            submittedAt: r.submittedAt,
            digest: _digest(requests, r),
            mapped: requests.nftContractToRequestId(r.nftContract) == id,
            codeHash: r.nftContract.codehash,
            isErc721: NftProbe.isErc721(r.nftContract),
            nftOwner: NftProbe.findOwner(r.nftContract)
        });
    }

    /// @dev IBrokerRequests.requestDigest from the fields, as generations 1 and 2 have no such function.
    function _digest(IBrokerRequests requests, IBrokerRequests.Request memory r) private view returns (bytes32) {
        bytes32 payloadHash = keccak256(bytes.concat(hex"00", r.encryptedPayload));
        return keccak256(abi.encode(block.chainid, address(requests), r.id, r.requester, r.nftContract, payloadHash));
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
